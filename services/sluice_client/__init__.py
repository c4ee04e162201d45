"""What producers and agents import: submit jobs to the gateway, await results, stream, map, cancel."""

from sluice_client.client import Client
from sluice_client.connection import Connection
from sluice_client.errors import (
    ClientError,
    JobFailed,
    NotAccepted,
    NotConfigured,
    NotConnected,
    RepliesUnreadable,
    ReplyTimeout,
    ResultTooLarge,
    StreamInterrupted,
)
from sluice_client.model import EventName, Finished, Job, JobOptions, Result, Submitted
from sluice_client.stream import Stream

__all__ = [
    "Client",
    "ClientError",
    "Connection",
    "EventName",
    "Finished",
    "Job",
    "JobFailed",
    "JobOptions",
    "NotAccepted",
    "NotConfigured",
    "NotConnected",
    "RepliesUnreadable",
    "ReplyTimeout",
    "Result",
    "ResultTooLarge",
    "Stream",
    "StreamInterrupted",
    "Submitted",
]
