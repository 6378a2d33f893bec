//! glommio driver
