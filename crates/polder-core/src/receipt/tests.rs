//! Tests of `receipt`: one for each thing its header promises. None is written yet.
