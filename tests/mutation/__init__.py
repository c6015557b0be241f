"""Mutation testing of the code that proofs hang on: `python -m tests.mutation`, or `make mutation`.

mutmut changes one token at a time, and the tests of the module have to notice. Mutants that none
notices are written down in `survivors.toml`, with the reason.
"""
