# The NoCloud seed: a volume labelled cidata or CIDATA that holds meta-data, user-data and network-config.
# Sourced by /lib/guest/boot. Sets SEED (a folder, empty without a seed), NODE_NAME and INSTANCE_ID.
# shellcheck disable=SC2034 # /lib/guest/boot reads them.

SEED=
NODE_NAME=berth-guest
INSTANCE_ID=none
KEYS=/run/authorized_keys
RUNCMD=/run/runcmd

# find_seed: mounts the seed. Virtio disks are there already; ATA is looked at only when they hold no seed, because its
# probing takes time on every `pc` machine. Modprobe returns when its driver has looked at all disks.
find_seed() {
  local device type
  device=$(seed_device) || { has_ata_controller && load_ata_drivers && device=$(seed_device); } || return 0
  mkdir -p /run/seed
  for type in iso9660 vfat; do
    mount -t "$type" -o ro "$device" /run/seed 2>/dev/null && SEED=/run/seed && return 0
  done
  note "the seed on $device can not be mounted"
}

seed_device() { findfs LABEL=cidata 2>/dev/null || findfs LABEL=CIDATA 2>/dev/null; }

# has_ata_controller: whether a PCI device has the class of an IDE (0101xx) or AHCI (0106xx) controller.
has_ata_controller() {
  local file class
  for file in /sys/bus/pci/devices/*/class; do
    read -r class <"$file"
    case $class in 0x0101* | 0x0106*) return 0 ;; esac
  done
  return 1
}

load_ata_drivers() {
  modprobe -q -a ata_piix ahci sd_mod sr_mod 2>/dev/null
  [ -e /sys/class/scsi_host/host0 ]
}

note() { say "BERTH-GUEST-NOTE $*"; }

# flat FILE: the file's YAML as lines of path, tab, value; see yaml.awk.
flat() { awk -f /lib/guest/yaml.awk "$1" 2>/dev/null || note "${1##*/} is not YAML that this guest can read"; }

# add_key TEXT: TEXT holds one key, or several on lines of their own.
add_key() { printf '%b\n' "$1" >>"$KEYS"; }

# quoted TEXT: the text as one word of a shell command.
quoted() { printf "'%s'" "$(printf '%b' "$1" | sed "s/'/'\\\\''/g")"; }

# is_name TEXT: whether it can be a hostname.
is_name() {
  case $1 in '' | -* | *[!A-Za-z0-9.-]*) return 1 ;; esac
}

set_hostname() {
  if is_name "$1"; then NODE_NAME=${1%%.*}; else note "'$1' is not a hostname"; fi
}

read_meta_data() {
  local path value
  [ -f "$SEED/meta-data" ] || return 0
  flat "$SEED/meta-data" >/run/meta-data.flat
  while IFS='	' read -r path value; do
    case $path in
          instance-id) INSTANCE_ID=$value ;;
      local-hostname | hostname) set_hostname "$value" ;;
      public-keys | public-keys/*) add_key "$value" ;;
    esac
  done </run/meta-data.flat
}

# read_user_data: takes what a #cloud-config says before the network is up, and collects its commands for later.
read_user_data() {
  local first=
  [ -s "$SEED/user-data" ] || return 0
  read -r first <"$SEED/user-data"
  case $first in
    '#!'*) ;;
    '#cloud-config'*) read_cloud_config ;;
    *) note "user-data is neither a script nor #cloud-config: ignored" ;;
  esac
}

read_cloud_config() {
  local path value item=
  flat "$SEED/user-data" >/run/user-data.flat
  while IFS='	' read -r path value; do
    case $path in
      hostname) set_hostname "$value" ;;
      ssh_authorized_keys/*) add_key "$value" ;;
      runcmd/*/*)
        [ "$item" = "${path%/*}" ] || printf '\n' >>"$RUNCMD"
        item=${path%/*}
        printf '%s ' "$(quoted "$value")" >>"$RUNCMD"
        ;;
      runcmd/*) printf '\n%b' "$value" >>"$RUNCMD" ;;
      *) note "user-data: '${path%%/*}' is not supported by this guest" ;;
    esac
  done </run/user-data.flat
  [ ! -f "$RUNCMD" ] || echo >>"$RUNCMD"
}

install_keys() {
  [ -s "$KEYS" ] || return 0
  mkdir -m 0700 /root/.ssh
  mv "$KEYS" /root/.ssh/authorized_keys
  chmod 0600 /root/.ssh/authorized_keys
}

# start_sshd: only for those who have a key; there are no passwords.
start_sshd() {
  [ -s /root/.ssh/authorized_keys ] && [ -x /usr/sbin/dropbear ] || return 0
  mkdir -p /etc/dropbear
  dropbearkey -t ed25519 -f /etc/dropbear/dropbear_ed25519_host_key >/dev/null 2>&1
  dropbear -s -r /etc/dropbear/dropbear_ed25519_host_key
}

# run_user_data: the script, or the commands of #cloud-config, as root. Output goes to the console and to a log.
run_user_data() {
  local first status
  [ -s "$SEED/user-data" ] || return 0
  read -r first <"$SEED/user-data"
  case $first in
    '#!'*) cp "$SEED/user-data" /run/user-data ;;
    *)
      [ -s "$RUNCMD" ] || return 0
      { echo '#!/bin/sh'; cat "$RUNCMD"; } >/run/user-data
      ;;
  esac
  chmod 0700 /run/user-data
  { (cd / && exec /run/user-data) 2>&1; echo $? >/run/user-data.status; } </dev/null | tee /var/log/user-data.log >/dev/console
  read -r status </run/user-data.status
  say "BERTH-GUEST-USER-DATA exit=$status"
}
