//! Tests of runs on real memory without Xen: taking, pinning and ending them.

use super::*;
use crate::errors::OUT_OF_RANGE;

fn allocate(runs: &Runs, pages: u32) -> u32 {
    runs.commit(runs.take(pages).unwrap(), None)
}

fn code(result: Result<impl Sized>) -> String {
    result.err().map(|failure| failure.status.clone()).unwrap_or_default()
}

#[test]
fn takes_and_gives_back() {
    let runs = Runs::new(4).unwrap();
    assert_eq!((allocate(&runs, 1), allocate(&runs, 2), allocate(&runs, 1)), (0, 4096, 3 * 4096));
    assert_eq!(code(runs.take(1)), ARENA_FULL);
    runs.close(4096).unwrap();
    assert_eq!(code(runs.take(3)), ARENA_FULL);
    assert_eq!(allocate(&runs, 2), 4096);
    assert_eq!(code(runs.take(0)), OUT_OF_RANGE);
}

#[test]
fn ended_pages_come_back_zeroed() {
    let runs = Runs::new(1).unwrap();
    let at = runs.own(allocate(&runs, 1), 4096).unwrap().cast::<u8>();
    // SAFETY: this is the arena's only page, accessible while `runs` lives.
    unsafe { at.write_volatile(1) };
    runs.close(0).unwrap();
    allocate(&runs, 1);
    // SAFETY: this is the arena's only page, accessible while `runs` lives.
    assert_eq!(unsafe { at.read_volatile() }, 0);
}

#[test]
fn pins_defer_the_end() {
    let runs = Runs::new(1).unwrap();
    allocate(&runs, 1);
    runs.pin(0).unwrap();
    runs.pin(0).unwrap();
    runs.close(0).unwrap();
    runs.unpin(0).unwrap();
    assert_eq!(code(runs.take(1)), ARENA_FULL, "one pin is left");
    runs.unpin(0).unwrap();
    assert_eq!(allocate(&runs, 1), 0);
    assert_eq!(code(runs.unpin(0)), OUT_OF_RANGE, "no pin to end");
}

#[test]
fn close_all_waits_for_pins_and_refuses_new_runs() {
    let runs = Rc::new(Runs::new(3).unwrap());
    let (first, second) = (allocate(&runs, 1), allocate(&runs, 1));
    let pinned = Pinned::new(Rc::clone(&runs), second, 4096).unwrap();
    runs.close_all().unwrap();
    assert_eq!(code(runs.take(1)), CLOSED);
    assert_eq!(code(runs.own(first, 1)), OUT_OF_RANGE);
    assert!(runs.own(second, 4096).is_ok());
    drop(pinned);
    assert_eq!(code(runs.own(second, 1)), OUT_OF_RANGE);
}

#[test]
fn offsets_inside_or_outside_a_run_are_refused() {
    let runs = Runs::new(4).unwrap();
    allocate(&runs, 2);
    for offset in [1, 4096, 2 * 4096, u32::MAX] {
        assert_eq!(code(runs.close(offset)), OUT_OF_RANGE);
        assert_eq!(code(runs.pin(offset)), OUT_OF_RANGE);
    }
    assert_eq!(code(runs.own(0, 2 * 4096 + 1)), OUT_OF_RANGE);
    assert_eq!(code(runs.notify_on_unmap(0, Some(0), None)), OUT_OF_RANGE, "own pages");
}

/// A plain file stands in for gntdev: the file can be mapped, but knows no ioctl.
#[test]
fn a_device_run_ends_even_if_its_driver_refuses() {
    let runs = Runs::new(2).unwrap();
    let path = format!("/tmp/xenkit-arena-test-{}", std::process::id());
    std::fs::write(&path, [7; 4096]).unwrap();
    let device = Rc::new(Device::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    let run = runs.take(1).unwrap();
    runs.map_device(run, &device, 0, true).unwrap();
    let (end, notify) =
        ((uapi::GNTDEV_UNMAP_GRANT_REF, "END"), (uapi::GNTDEV_SET_UNMAP_NOTIFY, "NOTIFY"));
    let offset =
        runs.commit(run, Some(Backing { device, end, notify, index: 0, _token: Token::mapping() }));
    assert_eq!(code(runs.own(offset, 1)), OUT_OF_RANGE, "a grant is not ours");
    assert_eq!(code(runs.notify_on_unmap(offset, Some(4096), None)), OUT_OF_RANGE);
    let refusal = runs.close(offset).unwrap_err();
    assert!(refusal.reason.starts_with("END: "), "{refusal:?}");
    assert_eq!(allocate(&runs, 2), 0, "the page is free all the same");
}
