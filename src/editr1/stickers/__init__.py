"""The embedded domain: stickers on photographs, with an oracle, faulty editors and simulated annotators."""
