//! See `repull_fuzz::headers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| repull_fuzz::headers(data));
