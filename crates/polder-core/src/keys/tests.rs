//! Tests of `keys`: one for each thing its header promises. None is written yet.
