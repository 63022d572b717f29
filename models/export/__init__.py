"""From a checkpoint to `models/zoo`: exact integer graphs, int8 transforms, tables and a manifest."""
