"""World-action models: token groups, backbone, tactile, cross-view and memory attention."""
