"""What a job costs beside a bare Celery message: CPU, claims per second, a burst, and the time after a kill."""
