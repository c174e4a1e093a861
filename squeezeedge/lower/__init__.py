"""Integer graph -> Relax IRModule."""
