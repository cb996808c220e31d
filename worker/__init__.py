"""Celery: the app, its queues and settings, lifecycle, and supervision of the device's child process."""
