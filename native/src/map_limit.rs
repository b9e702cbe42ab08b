//! The most grant mappings that this process may have. Each mapping is a memory area of its own (a
//! VMA), and a gap of free pages behind the mapping may be another area. A process that reaches
//! `vm.max_map_count` areas can't allocate memory and dies. So the mappings of all threads together
//! may take half of these areas.

use std::sync::OnceLock;

use napi_derive::napi;

/// Linux's default of `vm.max_map_count`.
const DEFAULT_AREAS: u32 = 65_530;
/// Divisor of `vm.max_map_count`: each mapping takes up to two areas (its pages and a gap), and
/// mappings get half of all areas.
const AREAS_PER_MAPPING: u32 = 4;

static MAX: OnceLock<u32> = OnceLock::new();

/// The most grant mappings that the whole process may have.
#[napi(catch_unwind)]
pub fn max_mappings() -> u32 {
    *MAX.get_or_init(|| of(std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().as_deref()))
}

fn of(setting: Option<&str>) -> u32 {
    let areas = setting.and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_AREAS);
    (areas / AREAS_PER_MAPPING).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_quarter_of_the_setting() {
        assert_eq!(of(Some("65530\n")), 16_382);
        assert_eq!(of(Some("1048576\n")), 262_144);
        assert_eq!(of(Some("2\n")), 1);
        assert_eq!((of(None), of(Some("unlimited"))), (16_382, 16_382));
    }
}
