"""The service as labelling tools speak to a model server: Label Studio and X-AnyLabeling."""
