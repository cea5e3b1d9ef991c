//! Shifts the wall clock of a process that it is preloaded into, by the nanoseconds that stand in a
//! file. `ORRERY_CLOCK_OFFSET` names the file: at least eight bytes, a little-endian integer first.
//! The file is mapped, so a change takes effect at the next look at the clock.
//!
//! The monotonic clock stays true. Rust's standard library waits for absolute times of it by system
//! calls of its own, and would wait for ever if they did not fit.

use std::{
    ptr,
    sync::atomic::{AtomicI64, AtomicPtr, AtomicU8, Ordering},
};

use libc::{c_int, c_void, clockid_t, time_t, timespec, timeval};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Bytes of the file that are mapped.
const MAPPED: usize = 8;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const LOOKING: u8 = 1;
const KNOWN: u8 = 2;

/// Where the offset stands; null while there is none.
static OFFSET: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());

fn offset() -> i64 {
    if STATE.load(Ordering::Acquire) != KNOWN {
        let first = STATE.compare_exchange(UNKNOWN, LOOKING, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            OFFSET.store(map(), Ordering::Release);
            STATE.store(KNOWN, Ordering::Release);
        }
    }
    let place = OFFSET.load(Ordering::Acquire);
    if place.is_null() {
        return 0;
    }
    // SAFETY: the mapping is never undone, is eight bytes long and begins at a page, and only this
    // type of access is made to it here.
    unsafe { (*place).load(Ordering::Relaxed) }
}

/// Null when there is nothing to map. Uses nothing that could look at a clock or allocate.
fn map() -> *mut AtomicI64 {
    // SAFETY: the name ends with a zero byte; the environment is read before threads change it, as
    // by the C library itself.
    let path = unsafe { libc::getenv(c"ORRERY_CLOCK_OFFSET".as_ptr()) };
    if path.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the path is a C string of the environment.
    let file = unsafe { libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return ptr::null_mut();
    }
    // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use.
    let mapped =
        unsafe { libc::mmap(ptr::null_mut(), MAPPED, libc::PROT_READ, libc::MAP_SHARED, file, 0) };
    // SAFETY: the descriptor is this function's own.
    unsafe { libc::close(file) };
    if mapped == libc::MAP_FAILED { ptr::null_mut() } else { mapped.cast() }
}

/// Stands in for the C library's function of this name.
///
/// # Safety
/// As there: `time` is null or points to a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the arguments are passed on as they came.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let is_wall = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE;
    if result == 0 && is_wall && !time.is_null() {
        // SAFETY: the kernel has just written it.
        let time = unsafe { &mut *time };
        let nanos = i128::from(time.tv_sec) * i128::from(NANOS_PER_SECOND)
            + i128::from(time.tv_nsec)
            + i128::from(offset());
        time.tv_sec = nanos.div_euclid(i128::from(NANOS_PER_SECOND)) as time_t;
        time.tv_nsec = nanos.rem_euclid(i128::from(NANOS_PER_SECOND)) as i64;
    }
    result as c_int
}

/// Stands in for the C library's function of this name.
///
/// # Safety
/// As there: `time` is null or points to a `timeval`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, _zone: *mut c_void) -> c_int {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it points to a `timespec`.
    let result = unsafe { clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    if result == 0 && !time.is_null() {
        // SAFETY: the caller says so.
        unsafe { *time = timeval { tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1_000 } };
    }
    result
}

/// Stands in for the C library's function of this name.
///
/// # Safety
/// As there: `seconds` is null or points to a `time_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(seconds: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it points to a `timespec`.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    if !seconds.is_null() {
        // SAFETY: the caller says so.
        unsafe { *seconds = now.tv_sec };
    }
    now.tv_sec
}
