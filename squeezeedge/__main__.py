"""``python -m squeezeedge``."""

from squeezeedge.cli import main

main()
