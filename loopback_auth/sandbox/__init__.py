"""A stand-in for a staging authorization server, to build against until the real keys arrive.

A peer of the client in this package: nothing here imports it, so that one misreading of an RFC cannot cancel
out on both sides.
"""

from .faults import FAULTS
from .log import LogLine
from .restaurants import RESTAURANTS, Restaurant
from .server import Sandbox
from .settings import DEFAULT_PORT, SANDBOX_CLIENT, Fault, FaultGrant, Reuse, SandboxClient, SandboxSettings
from .state import StateUnusable

__all__ = [
    "DEFAULT_PORT",
    "FAULTS",
    "RESTAURANTS",
    "SANDBOX_CLIENT",
    "Fault",
    "FaultGrant",
    "LogLine",
    "Restaurant",
    "Reuse",
    "Sandbox",
    "SandboxClient",
    "SandboxSettings",
    "StateUnusable",
]
