"""Stage 1 of the method: from pictures with instructions to reasoning traces for cold-start fine-tuning (section 4).

Read it in the order of the stages: `select`, `decompose`, `edit`, `trace`, `verify`, `choose`, `export`. Each is a
plain function from records to records; `run` strings them together, on disk, so that a killed run goes on.
"""
