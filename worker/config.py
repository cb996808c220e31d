"""Every Celery setting of the fleet, each with its reason. Loaded by the app on first use, never at import of it.

``docs/operations.md`` explains the groups; a test reads the values back from the running app.
"""

from __future__ import annotations

from kombu.entity import Exchange, Queue

import beat_schedule as _schedule
from rl.protocol import QUEUES, TASK_QUEUES
from worker.settings import broker_tls as _broker_tls
from worker.settings import broker_url as _broker_url
from worker.settings import settings as _settings

broker_url, broker_use_ssl = _broker_tls(_broker_url())  # kombu by itself would not look at the certificate

broker_transport_options = {
    "socket_timeout": 10,  # a half-open connection otherwise hangs the worker for ever
    "socket_connect_timeout": 1.5,  # for workers; callers have shorter ones, worker/task.py
    "socket_keepalive": True,
    "health_check_interval": 5,
    "retry_on_timeout": False,  # with it the client reconnects unseen and then waits for ever in the event loop
    "visibility_timeout": 600,  # longer than any task that acknowledges late; the others acknowledge at their start
    "unacked_restore_interval": 10,  # with the next: a sweep every 10 s rather than every 100 s
    "unacked_restore_throttle": 1,
    "global_keyprefix": "rlfleet:",  # the shortest visibility timeout of a shared broker would win
}
broker_connection_retry_on_startup = True  # a worker may start before the broker
broker_connection_max_retries = None
worker_cancel_long_running_tasks_on_connection_loss = False  # a two-second blip must not cost a GPU-hour

task_queues = [Queue(name, Exchange("rlfleet"), routing_key=name) for name in QUEUES]  # type: ignore[no-untyped-call]
task_create_missing_queues = False  # a mistyped queue is an error, not a place where messages vanish
task_default_queue = task_default_routing_key = "maint"
task_default_exchange = "rlfleet"
task_routes = {name: {"queue": queue} for name, queue in TASK_QUEUES.items()}

task_serializer = "json"  # pickle would let anybody who reaches the broker run code
accept_content = ["json"]
result_accept_content = ["json"]

task_acks_late = False  # redelivery is the reconciler's work, in seconds; see docs/operations.md
task_acks_on_failure = True
task_acks_on_timeout = True
task_reject_on_worker_lost = False  # it would run a poisonous task for ever
task_retry_on_worker_lost = False  # attempts are counted in Postgres only
worker_prefetch_multiplier = 1
worker_disable_prefetch = True  # a prefetched message behind a long task would be delivered twice

task_ignore_result = True  # Postgres holds the outcomes
result_expires = None  # beat would send a daily task that cleans up results
task_publish_retry_policy = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.2}

worker_send_task_events = True  # Flower
task_send_sent_event = True
worker_proc_alive_timeout = 30.0  # a loaded machine is not a dead one
worker_hijack_root_logger = False
worker_consumer = "worker.consumer:Consumer"  # a message that cannot be read must not end the worker
worker_soft_shutdown_timeout = _settings().drain_seconds  # a task that is not done by then releases its job
worker_enable_soft_shutdown_on_idle = False  # nothing is ever scheduled by eta

enable_utc = True
timezone = "UTC"
beat_schedule = _schedule.ENTRIES
beat_max_loop_interval = 5
