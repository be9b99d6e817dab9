#!/usr/bin/env bash
# The image of the Dockerfile here, made from Debian's packages where no image can be pulled.
# Needs root, debootstrap, a running Docker daemon and a Debian mirror (MIRROR names another one).
#   sudo sandboxes/images/build_without_registry.sh [NAME:TAG]
set -euo pipefail
tag=${1:-agent-rl-sandbox:1}
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "build_without_registry.sh: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "must run as root, because debootstrap makes device files and owners"
command -v debootstrap > /dev/null || fail "debootstrap is missing; apt-get install debootstrap"
docker version > /dev/null 2>&1 || fail "no Docker daemon answers; start dockerd"

folder=$(mktemp -d)
trap 'rm -rf --one-file-system "$folder"' EXIT
root=$folder/root
if ! debootstrap --variant=minbase --include=python3,procps bookworm "$root" ${MIRROR:+"$MIRROR"} \
    > "$folder/log" 2>&1; then
    tail -n 20 "$folder/log" >&2
    fail "debootstrap failed (its last words are above); MIRROR=URL names another Debian mirror"
fi
cp "$here/finish.sh" "$root/tmp/finish.sh"
chroot "$root" /bin/sh /tmp/finish.sh
rm "$root/tmp/finish.sh"
tar -C "$root" --numeric-owner --one-file-system -c . | docker import \
    --change 'LABEL agent-rl.image=1' \
    --change 'ENV LANG=C.UTF-8' \
    --change 'ENV HOME=/work' \
    --change 'USER 61000:61000' \
    --change 'WORKDIR /work' \
    --change 'CMD ["python3"]' \
    - "$tag" > /dev/null
echo "built $tag ($(docker image inspect --format '{{.Size}}' "$tag" | numfmt --to=si)B)"
