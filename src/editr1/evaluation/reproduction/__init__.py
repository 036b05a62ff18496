"""The paper in miniature: a plan of steps, each a command or a computation that leaves a file, and what follows.

places     where things lie, which models and recipes there are
plan       all steps by name: what they need, what makes them, what they leave
run        does what is missing, writes a file with a manifest for each step
people     the human study, with simulated people
curves     training dynamics out of runs' metrics
shapes     what tables and figures are made of
effects    the paper's claims as differences between two of ours
making     the command that makes what an exhibit lacks
exhibits   tables and figures, each of ours beside the paper's
"""
