//! Engines that run models inside this process or behind an upstream.
