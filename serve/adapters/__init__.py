"""The service as a model server of labelling tools: Label Studio and X-AnyLabeling."""
