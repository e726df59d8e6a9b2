"""Settings of JAX that make a server start fast."""

import hashlib
import logging
import os
import platform
from pathlib import Path

import jax
from platformdirs import user_cache_path

log = logging.getLogger(__name__)


def prepare() -> None:
    """Keep compiled kernels on disk between processes; the environment's own setting wins.

    Without a cache a compilation takes seconds, with it a fraction of one.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = user_cache_path("twinscope") / "jax" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        log.warning("compiled kernels are not kept: %s cannot be made: %s", folder, exc)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _processor() -> str:
    """Name the processor: compiled code may use instructions that another one lacks."""
    description = [platform.machine(), jax.__version__]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        description += [line for line in cpuinfo.read_text().splitlines() if line.startswith(("model name", "flags"))][
            :2
        ]
    return hashlib.sha256("\n".join(description).encode()).hexdigest()[:16]
