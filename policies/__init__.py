"""Policy networks, their training, distillation and export."""
