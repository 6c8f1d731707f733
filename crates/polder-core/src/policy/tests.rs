//! Tests of `policy`: one for each thing its header promises. None is written yet.
