#!/usr/bin/env bash
# Prints the badge whose click opens the tour on mybinder.org, for wherever this repository lives:
#
#     binder/link.sh                           from the remote called origin
#     binder/link.sh OWNER/NAME                of a repository on GitHub
#     binder/link.sh --write [OWNER/NAME]      the same, and puts it into the README
set -euo pipefail
cd "$(dirname "$0")/.."
write=""
if [[ "${1:-}" == "--write" ]]; then
  write=1
  shift
fi
address="${1:-$(git remote get-url origin 2>/dev/null || true)}"
name="$(sed -E 's#^(https?://([^@/]*@)?|ssh://git@|git@)?(github\.com[:/])?##; s#\.git/?$##; s#/$##' <<<"$address")"
if [[ ! "$name" =~ ^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$ ]]; then
  echo "no repository on GitHub is known here: binder/link.sh OWNER/NAME" >&2
  exit 2
fi
tour="$(find notebooks/tutorials -name '[0-9]*.ipynb' | sort | head -n 1)"
page="https://mybinder.org/v2/gh/$name/HEAD?urlpath=lab/tree/$tour"
badge="[![Open the tour on Binder](https://mybinder.org/badge_logo.svg)]($page)"
if [[ -n "$write" ]]; then # the badge's line ends with a mark that no reader sees
  sed "s#^.*<!-- badge -->\$#$badge <!-- badge -->#" README.md >README.md.part
  mv README.md.part README.md
fi
echo "$badge"
