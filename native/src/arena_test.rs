//! The arena's table, on its own memory: what is taken, pinned, ended.

use super::*;
use crate::errors::OUT_OF_RANGE;

fn allocate(core: &Core, pages: u32) -> u32 {
    core.commit(core.take(pages).unwrap(), None)
}

fn code(result: Result<impl Sized>) -> String {
    result.err().map(|failure| failure.status.clone()).unwrap_or_default()
}

#[test]
fn takes_and_gives_back() {
    let core = Core::new(4).unwrap();
    assert_eq!((allocate(&core, 1), allocate(&core, 2), allocate(&core, 1)), (0, 4096, 3 * 4096));
    assert_eq!(code(core.take(1)), ARENA_FULL);
    core.close(4096).unwrap();
    assert_eq!(code(core.take(3)), ARENA_FULL);
    assert_eq!(allocate(&core, 2), 4096);
    assert_eq!(code(core.take(0)), OUT_OF_RANGE);
}

#[test]
fn ended_pages_come_back_zeroed() {
    let core = Core::new(1).unwrap();
    let at = core.own(allocate(&core, 1), 4096).unwrap().cast::<u8>();
    // SAFETY: the only page of the arena, accessible while `core` lives.
    unsafe { at.write_volatile(1) };
    core.close(0).unwrap();
    allocate(&core, 1);
    // SAFETY: as before.
    assert_eq!(unsafe { at.read_volatile() }, 0);
}

#[test]
fn pins_defer_the_end() {
    let core = Core::new(1).unwrap();
    allocate(&core, 1);
    core.pin(0).unwrap();
    core.pin(0).unwrap();
    core.close(0).unwrap();
    core.unpin(0).unwrap();
    assert_eq!(code(core.take(1)), ARENA_FULL, "one pin is left");
    core.unpin(0).unwrap();
    assert_eq!(allocate(&core, 1), 0);
    assert_eq!(code(core.unpin(0)), OUT_OF_RANGE, "no pin to end");
}

#[test]
fn close_all_waits_for_pins_and_ends_taking() {
    let core = Rc::new(Core::new(3).unwrap());
    let (first, second) = (allocate(&core, 1), allocate(&core, 1));
    let pinned = Pinned::new(Rc::clone(&core), second, 4096).unwrap();
    core.close_all().unwrap();
    assert_eq!(code(core.take(1)), CLOSED);
    assert_eq!(code(core.own(first, 1)), OUT_OF_RANGE);
    assert!(core.own(second, 4096).is_ok());
    drop(pinned);
    assert_eq!(code(core.own(second, 1)), OUT_OF_RANGE);
}

#[test]
fn only_what_begins_there_is_known() {
    let core = Core::new(4).unwrap();
    allocate(&core, 2);
    for offset in [1, 4096, 2 * 4096, u32::MAX] {
        assert_eq!(code(core.close(offset)), OUT_OF_RANGE);
        assert_eq!(code(core.pin(offset)), OUT_OF_RANGE);
    }
    assert_eq!(code(core.own(0, 2 * 4096 + 1)), OUT_OF_RANGE);
    assert_eq!(code(core.notify_on_unmap(0, Some(0), None)), OUT_OF_RANGE, "own pages");
}

/// A device that can be mapped but knows no ioctl stands in for gntdev.
#[test]
fn a_backed_run_ends_even_if_its_driver_objects() {
    let core = Core::new(2).unwrap();
    let path = format!("/tmp/xenkit-arena-test-{}", std::process::id());
    std::fs::write(&path, [7; 4096]).unwrap();
    let device = Rc::new(Device::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    let run = core.take(1).unwrap();
    core.map_device(run, &device, 0, true).unwrap();
    let (end, notify) = ((uapi::GNTDEV_UNMAP_GRANT_REF, "END"), (uapi::GNTDEV_SET_UNMAP_NOTIFY, "NOTIFY"));
    let offset = core.commit(run, Some(Backing { device, end, notify, index: 0, _token: Token::mapping() }));
    assert_eq!(code(core.own(offset, 1)), OUT_OF_RANGE, "a grant is not ours");
    assert_eq!(code(core.notify_on_unmap(offset, Some(4096), None)), OUT_OF_RANGE);
    let objection = core.close(offset).unwrap_err();
    assert!(objection.reason.starts_with("END: "), "{objection:?}");
    assert_eq!(allocate(&core, 2), 0, "the page is free all the same");
}
