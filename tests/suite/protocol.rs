//! named tests of the protocol
