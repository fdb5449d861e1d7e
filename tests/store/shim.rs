//! A disk that fails on demand: a library that is loaded before libc and makes chosen calls on chosen files fail while a flag file says so.
//! Made with the C compiler when a test needs it.

use std::path::PathBuf;
use std::process::Command;

/// The flag file says `CALL ERRNO PART SKIP`: from the call after SKIP on, CALL (`write`, `sync`, `grow`, `rename` or `any`) fails with
/// ERRNO on every file whose path holds PART.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static long seen;

static int fails(const char *call, int fd, const char *given) {
    static __thread int inside;
    const char *flag = getenv("CORDWAINER_FAULT");
    char text[512], path[1024], link[64], what[32], part[256];
    int error, old = errno;
    long skip = 0;
    if (!flag || inside) return 0;
    inside = 1;
    int file = syscall(SYS_openat, AT_FDCWD, flag, O_RDONLY | O_CLOEXEC);
    if (file < 0) { seen = 0; inside = 0; errno = old; return 0; }
    long length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    inside = 0;
    errno = old;
    if (length <= 0) return 0;
    text[length] = 0;
    if (sscanf(text, "%31s %d %255s %ld", what, &error, part, &skip) < 3) return 0;
    if (strcmp(what, call) && strcmp(what, "any")) return 0;
    if (!given) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = readlink(link, path, sizeof path - 1);
        errno = old;
        if (length <= 0) return 0;
        path[length] = 0;
        given = path;
    }
    if (!strstr(given, part)) return 0;
    if (__atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST) < skip) return 0;
    errno = error;
    return 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
ssize_t write(int fd, const void *bytes, size_t n) {
    return fails("write", fd, 0) ? -1 : NEXT(write)(fd, bytes, n);
}
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
    return fails("write", fd, 0) ? -1 : NEXT(pwrite)(fd, bytes, n, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
    return fails("write", fd, 0) ? -1 : NEXT(pwrite64)(fd, bytes, n, at);
}
int fsync(int fd) { return fails("sync", fd, 0) ? -1 : NEXT(fsync)(fd); }
int fdatasync(int fd) { return fails("sync", fd, 0) ? -1 : NEXT(fdatasync)(fd); }
int ftruncate(int fd, off_t n) { return fails("grow", fd, 0) ? -1 : NEXT(ftruncate)(fd, n); }
int ftruncate64(int fd, off64_t n) { return fails("grow", fd, 0) ? -1 : NEXT(ftruncate64)(fd, n); }
int rename(const char *a, const char *b) { return fails("rename", -1, b) ? -1 : NEXT(rename)(a, b); }
int link(const char *a, const char *b) { return fails("rename", -1, b) ? -1 : NEXT(link)(a, b); }
int linkat(int x, const char *a, int y, const char *b, int flags) {
    return fails("rename", -1, b) ? -1 : NEXT(linkat)(x, a, y, b, flags);
}
"#;

pub const ENOSPC: i32 = nix::libc::ENOSPC;
pub const EIO: i32 = nix::libc::EIO;
pub const EROFS: i32 = nix::libc::EROFS;

/// The library, and the flag that rules it.
pub struct Faults {
    dir: tempfile::TempDir,
}

impl Faults {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("shim.c");
        std::fs::write(&source, SOURCE).unwrap();
        let made = Command::new("gcc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(dir.path().join("shim.so"))
            .arg(&source)
            .arg("-ldl")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { dir }
    }

    fn flag(&self) -> PathBuf {
        self.dir.path().join("flag")
    }

    /// Puts `command` under the shim.
    pub fn rule(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.dir.path().join("shim.so"));
        command.env("CORDWAINER_FAULT", self.flag());
    }

    /// From now on, after `skip` calls that go well.
    pub fn begin(&self, call: &str, errno: i32, part: &str, skip: u32) {
        let next = self.dir.path().join("next");
        std::fs::write(&next, format!("{call} {errno} {part} {skip}")).unwrap();
        self.end();
        std::fs::rename(next, self.flag()).unwrap();
    }

    pub fn end(&self) {
        let _none = std::fs::remove_file(self.flag());
    }
}
