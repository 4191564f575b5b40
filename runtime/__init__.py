"""The core that flies: one ``InferenceRuntime`` protocol, three strategies, trust in files, memory, heat."""
