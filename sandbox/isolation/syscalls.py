"""Numbers of the system calls that a boxed Python program may use, as `name:x86_64:aarch64` (-1: the call
is not there).

From the kernel's headers (asm/unistd_64.h and asm-generic/unistd.h, Linux 6.1). What is not listed is
refused, so a call that a later kernel adds is refused too.
"""

ALLOWED = """
    read:0:63 write:1:64 readv:19:65 writev:20:66 pread64:17:67 pwrite64:18:68 preadv:295:69 pwritev:296:70
    preadv2:327:286 pwritev2:328:287 open:2:-1 openat:257:56 openat2:437:437 close:3:57 close_range:436:436
    stat:4:-1 fstat:5:80 lstat:6:-1 newfstatat:262:79 statx:332:291 statfs:137:43 fstatfs:138:44 lseek:8:62
    mmap:9:222 mprotect:10:226 munmap:11:215 mremap:25:216 madvise:28:233 brk:12:214 msync:26:227
    mincore:27:232 mlock:149:228 munlock:150:229 membarrier:324:283 rseq:334:293 set_robust_list:273:99
    get_robust_list:274:100 set_tid_address:218:96 futex:202:98 futex_waitv:449:449 rt_sigaction:13:134
    rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136 rt_sigtimedwait:128:137
    rt_sigsuspend:130:133 sigaltstack:131:132 pause:34:-1 alarm:37:-1 setitimer:38:103 getitimer:36:102
    restart_syscall:219:128 ioctl:16:29 fcntl:72:25 flock:73:32 fsync:74:82 fdatasync:75:83 truncate:76:45
    ftruncate:77:46 fallocate:285:47 access:21:-1 faccessat:269:48 faccessat2:439:439 pipe:22:-1
    pipe2:293:59 select:23:-1 pselect6:270:72 poll:7:-1 ppoll:271:73 epoll_create:213:-1
    epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:-1 epoll_pwait:281:22 epoll_pwait2:441:441
    eventfd:284:-1 eventfd2:290:19 timerfd_create:283:85 timerfd_settime:286:86 timerfd_gettime:287:87
    signalfd4:289:74 dup:32:23 dup2:33:-1 dup3:292:24 nanosleep:35:101 clock_nanosleep:230:115
    clock_gettime:228:113 clock_getres:229:114 gettimeofday:96:169 time:201:-1 times:100:153 getcpu:309:168
    getrandom:318:278 uname:63:160 sysinfo:99:179 getpid:39:172 getppid:110:173 gettid:186:178
    getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177 getresuid:118:148 getresgid:120:150
    getgroups:115:158 getpgid:121:155 getpgrp:111:-1 getsid:124:156 getpriority:140:141 getrlimit:97:163
    setrlimit:160:164 prlimit64:302:261 getrusage:98:165 umask:95:166 getcwd:79:17 chdir:80:49 fchdir:81:50
    getdents:78:-1 getdents64:217:61 mkdir:83:-1 mkdirat:258:34 rmdir:84:-1 unlink:87:-1 unlinkat:263:35
    rename:82:-1 renameat:264:38 renameat2:316:276 link:86:-1 linkat:265:37 symlink:88:-1 symlinkat:266:36
    readlink:89:-1 readlinkat:267:78 chmod:90:-1 fchmod:91:52 fchmodat:268:53 utime:132:-1 utimes:235:-1
    utimensat:280:88 futimesat:261:-1 copy_file_range:326:285 sendfile:40:71 splice:275:76 tee:276:77
    fadvise64:221:223 sched_yield:24:124 sched_getaffinity:204:123 sched_getparam:143:121
    sched_getscheduler:145:120 sched_getattr:315:275 sched_get_priority_max:146:125
    sched_get_priority_min:147:126 arch_prctl:158:-1 prctl:157:167 exit:60:93 exit_group:231:94
    socketpair:53:199 sendto:44:206 recvfrom:45:207 sendmsg:46:211 recvmsg:47:212 shutdown:48:210
    getsockopt:55:209 setsockopt:54:208 getsockname:51:204 getpeername:52:205 clone:56:220 fork:57:-1
    vfork:58:-1 wait4:61:260 waitid:247:95 kill:62:129 tkill:200:130 tgkill:234:131 seccomp:317:277
    pidfd_open:434:434 timer_create:222:107 timer_settime:223:110 timer_gettime:224:108
    timer_getoverrun:225:109 timer_delete:226:111 clone3:435:435
"""

# What zygotes for commands (compilers, programs of other languages) may do besides.
EXEC = """
    execve:59:221 setpgid:109:154 setsid:112:157
"""

# Asked for by every copy of a file with its attributes, which goes on where there are none.
ATTRIBUTES = """
    listxattr:194:11 llistxattr:195:12 flistxattr:196:13
"""


def _numbers(table: str) -> dict[str, tuple[int, int]]:
    return {name: (int(x86), int(arm)) for name, x86, arm in (item.split(":") for item in table.split())}


NUMBERS = _numbers(ALLOWED)
EXEC_NUMBERS = _numbers(EXEC)
ATTRIBUTE_NUMBERS = _numbers(ATTRIBUTES)
