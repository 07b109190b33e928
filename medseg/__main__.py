"""`python -m medseg`, which is `medseg`; `torchrun -m medseg train ...` starts it in several processes."""

from medseg.cli.main import main

main()
