"""The published calls of HyperSpy, for an interpreter that has it: ``python _hyperspy_peer.py IMAGE.npy K OUT.npz``.

It writes loadings, factors and the seconds that windows, singular values and factors took.
"""

import sys
import time

import hyperspy.api as hs
import numpy as np

_WINDOW, _STEP, _OFFSET = 128, 64, 1e4


def main() -> None:
    """Analyse an image as the published program does."""
    image, number, out = np.load(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    begin = time.perf_counter()
    windows = np.lib.stride_tricks.sliding_window_view(image, (_WINDOW, _WINDOW))[::_STEP, ::_STEP]
    taper = np.sqrt(np.outer(np.hanning(_WINDOW), np.hanning(_WINDOW)))
    power = np.abs(np.fft.fftshift(np.fft.fft2(windows * taper), axes=(-2, -1))) ** 2
    signal = hs.signals.Signal2D(np.log(power + _OFFSET))
    signal.decomposition(algorithm="SVD", print_info=False)
    signal.decomposition(algorithm="NMF", output_dimension=number, print_info=False)
    seconds = time.perf_counter() - begin
    np.savez(
        out,
        loadings=signal.get_decomposition_loadings().data,
        factors=signal.get_decomposition_factors().data,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
