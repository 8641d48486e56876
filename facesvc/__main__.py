"""``python -m facesvc`` is the command ``facesvc``."""

from facesvc.cli import main

main()
