//! See `repull_fuzz::subject`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| repull_fuzz::subject(data));
