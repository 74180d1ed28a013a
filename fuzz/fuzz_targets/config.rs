//! See `repull_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| repull_fuzz::config(data));
