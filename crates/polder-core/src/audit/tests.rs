//! Tests of `audit`: one for each thing its header promises. None is written yet.
