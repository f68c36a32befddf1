"""Published encoders as Flax modules that read published weights.

Names of parameters are those of the published tensors, so that a module says itself what it reads.
docs/pretrained.md lists the encoders, and which of them have met real weights.
"""
