"""Stage 3: reinforcement learning of an editor with a verifier's scores.

Read `loop` first, which is the whole algorithm from top to bottom; then `rollouts` and `update`. `algorithm` says what
`grpo` and `nft` have to answer.
"""
