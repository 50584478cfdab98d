"""The twin: a board in software that runs the unmodified firmware and counts modelled core cycles."""
