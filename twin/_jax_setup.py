"""Settings of JAX that make a server quiet, modest and fast to start. To be imported before JAX is.

What the environment says already always wins.
"""

import hashlib
import logging
import os
import platform
from pathlib import Path

from platformdirs import user_cache_path

log = logging.getLogger(__name__)

# XLA writes kilobytes of harmless notes to stderr whenever it finds compiled code in its cache.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The kernels spread their work over devices: with one for each core they are nearly as many times as fast, while one
# device for all cores gains little from the second.
_MOST_DEVICES = 16
_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(min(_cores, _MOST_DEVICES)))
# JAX would take three quarters of a GPU's memory, which the agents beside it want to train on.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def keep_compiled_code() -> None:
    """Keep compiled kernels on disk between processes: loading one takes a tenth of the time of compiling it."""
    import jax

    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = user_cache_path("twinscope") / "jax" / f"{jax.__version__}-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        log.warning("compiled kernels are not kept: %s cannot be made: %s", folder, exc)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def _processor() -> str:
    """Name the processor: compiled code may use instructions that another one lacks."""
    description = [platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        description += [line for line in lines if line.startswith(("model name", "flags"))][:2]
    return hashlib.sha256("\n".join(description).encode()).hexdigest()[:16]
