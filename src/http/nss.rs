//! Name-service order of the statically linked C library, which must not load the host's modules.
//!
//! A static glibc resolves names from `/etc/hosts` and DNS without modules. If `/etc/nsswitch.conf` names
//! other modules, glibc loads them from the host, and a module of another glibc version may crash the
//! process. So the order is fixed before the first look-up. This is the only module of the crate with
//! `unsafe`.

/// Pins host look-ups to `/etc/hosts` and DNS. Call once, before other threads exist.
pub fn pin() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::pin();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library offers no other way, and no crate wraps this call")]
mod glibc {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    pub(super) fn pin() {
        // SAFETY: both arguments are NUL-terminated and live for ever; glibc copies them. The call fails
        // only for a database that glibc does not know, and then changes nothing.
        unsafe {
            __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr());
        }
    }
}
