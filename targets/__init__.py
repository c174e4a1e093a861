"""Targets: one folder each, the same file names, one small protocol. Nothing outside a folder names it.

:mod:`.protocol` says what a target is, :mod:`.registry` finds them, :mod:`.device` is the program that runs on every
device, and :mod:`.session` runs it here or on another machine.
"""

if __name__ != "squeezeedge.targets":  # from the checkout's root, where the folder lies
    raise ImportError("this package is squeezeedge.targets: import it by that name")
