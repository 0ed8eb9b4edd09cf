# shellcheck shell=bash
# Shell helpers shared by the programs in scripts/: messages, Debian packages, and a libvirtd for hosts without a
# service manager. Source it: `. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"`. It defines functions and changes nothing.
#
# Messages go to standard error, so that a program's standard output stays free for its result.

# Seconds that stop_libvirtd and start_libvirtd wait for a daemon. Without guests libvirtd answers, or leaves, within 3 s.
readonly BERTH_DAEMON_WAIT_S=15
# Seconds to wait for another apt or dpkg to finish: unattended-upgrades may hold the lock on a fresh machine.
readonly BERTH_APT_LOCK_WAIT_S=300

say() { printf '%s\n' "$*" >&2; }

# step MESSAGE: one line of progress, with the whole seconds since the program started.
step() { printf '[%3d s] %s\n' "$SECONDS" "$*" >&2; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# need_root WHY: ends the program unless it runs as root.
need_root() {
  ((EUID == 0)) || die "$1 needs root: run it as root, or with sudo"
}

# missing_packages PACKAGE...: prints those that dpkg does not have installed, one a line.
missing_packages() {
  local package have
  have=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null | sed -n 's/ installed$//p' || true)
  for package in "$@"; do
    grep -qxF -- "$package" <<<"$have" || printf '%s\n' "$package"
  done
}

# need_packages PACKAGE...: installs the Debian packages that are missing, and only those.
need_packages() {
  local missing
  command -v dpkg-query >/dev/null || die "dpkg is not here. Install by your own means what these Debian packages hold: $*"
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} > 0)) || return 0
  ((EUID == 0)) || die "packages are missing; run as root: apt-get install --no-install-recommends ${missing[*]}"
  update_package_lists
  step "apt-get install ${missing[*]}"
  apt_get install --no-install-recommends "${missing[@]}" || die "these packages could not be installed: ${missing[*]}"
}

# update_package_lists: fetches the lists, once a run.
update_package_lists() {
  [[ -z ${BERTH_APT_UPDATED:-} ]] || return 0
  step "apt-get update"
  apt_get update || die "the package lists could not be fetched: is there a network, and are the apt sources right?"
  export BERTH_APT_UPDATED=1
}

# apt_get ARGUMENT...: apt-get that asks nothing, waits for the lock, and shows its output only when it fails.
apt_get() {
  local log status=0
  log=$(mktemp)
  DEBIAN_FRONTEND=noninteractive apt-get -y -q -o "DPkg::Lock::Timeout=$BERTH_APT_LOCK_WAIT_S" -o Acquire::Retries=3 \
    -o Dpkg::Options::=--force-confold "$@" </dev/null >"$log" 2>&1 || status=$?
  ((status == 0)) || tail -n 40 "$log" >&2
  rm -f "$log"
  return "$status"
}

# wait_until SECONDS COMMAND...: tries COMMAND every tenth of a second; fails when it has not succeeded in time.
wait_until() {
  local tries=$(($1 * 10))
  shift
  until "$@"; do
    ((tries-- > 0)) || return 1
    sleep 0.1
  done
}

libvirt_answers() {
  [[ -S /run/libvirt/libvirt-sock ]] && timeout 5 virsh -q -c qemu:///system version >/dev/null 2>&1
}

# start_libvirtd STATE_DIR: makes libvirt answer on its usual socket. Does nothing when it already does. Without a service
# manager it starts virtlogd and libvirtd, and writes the pids of those that it started to STATE_DIR/*.pid.
start_libvirtd() {
  local state=$1
  libvirt_answers && return 0
  need_root "starting libvirtd"
  mkdir -p "$state"
  if [[ -d /run/systemd/system ]]; then
    systemctl start libvirtd || die "libvirtd does not start: see 'systemctl status libvirtd'"
  else
    mkdir -p /run/libvirt
    open_kvm
    start_daemon virtlogd "$state"
    start_daemon libvirtd "$state"
  fi
  wait_until "$BERTH_DAEMON_WAIT_S" libvirt_answers || die "libvirtd was started and does not answer on /run/libvirt/libvirt-sock"
}

# open_kvm: gives /dev/kvm to the group kvm, as udev's rule does where there is a service manager. Left to root alone, it
# makes libvirt probe QEMU anew at each look, for seconds: what it finds as root, QEMU's user does not have.
open_kvm() {
  [[ -c /dev/kvm && $(stat -c %G /dev/kvm) != kvm ]] && getent group kvm >/dev/null || return 0
  chgrp kvm /dev/kvm
  chmod 0660 /dev/kvm
}

# start_daemon NAME STATE_DIR: starts NAME unless its usual pid file names a live one.
start_daemon() {
  local name=$1 state=$2
  ! is_process "$name" "$(cat "/run/$name.pid" 2>/dev/null)" || return 0
  "$name" -d -p "/run/$name.pid" >"$state/$name.out" 2>&1 || die "$name does not start: $(tail -n 3 "$state/$name.out")"
  cp "/run/$name.pid" "$state/$name.pid"
}

# stop_libvirtd STATE_DIR: stops, by pid, the daemons that start_libvirtd started. Leaves them while any guest still runs.
stop_libvirtd() {
  local state=$1 name pid
  [[ -f $state/libvirtd.pid || -f $state/virtlogd.pid ]] || return 0
  if [[ -n $(timeout 5 virsh -q -c qemu:///system list --name 2>/dev/null) ]]; then
    say "guests still run: libvirtd is left running"
    return 0
  fi
  for name in libvirtd virtlogd; do
    pid=$(cat "$state/$name.pid" 2>/dev/null) || continue
    if is_process "$name" "$pid"; then
      kill -TERM "$pid"
      wait_until "$BERTH_DAEMON_WAIT_S" process_is_gone "$name" "$pid" || die "$name (pid $pid) does not stop"
    fi
    rm -f "$state/$name.pid" "$state/$name.out"
  done
}

# is_process NAME PID: whether PID is a live process of that name, and not another that was given the same number.
is_process() { [[ $2 =~ ^[0-9]+$ && $(cat "/proc/$2/comm" 2>/dev/null) == "$1" ]]; }

process_is_gone() { ! is_process "$1" "$2"; }
