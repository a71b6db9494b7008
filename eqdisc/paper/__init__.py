"""Reproduction: the figures and tables of "Neural Power Units" (Heim, Pevný & Šmídl, NeurIPS 2020, arXiv:2006.01681), trained anew.

One module an experiment; each says what the paper's text asks for (`printed`), what its code does (`coded`), and what the paper's own
numbers are. Nothing in a fit imports this package.
"""
