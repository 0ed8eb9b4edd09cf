/** Completion for zsh: an autoloaded function, or sourced after compinit. */
import { type CommandView, valuedOptions } from './view.ts';
import { optionArms, pathPattern, valueArms, wordArms } from './words.ts';

export function zshScript(views: readonly CommandView[]): string {
  return `#compdef berth
# Completion of berth for zsh, made by \`berth completion zsh\`.

_berth() {
  local current="\${words[CURRENT]}" previous="" at="" count=0 kind="" offered="" word i program="\${words[1]}"
  local -a socket
  local offers=""
  for ((i = 2; i < CURRENT; i++)); do
    word="\${words[i]}"
    case "$previous" in
      (--socket) socket=(--socket "$word"); previous=""; continue ;;
      (${valuedOptions(views).join('|')}) previous=""; continue ;;
    esac
    previous="$word"
    [[ $word == -* ]] && continue
    case "$at/$word" in
      (${pathPattern(views)}) at="$at/$word" ;;
      (*) count=$((count + 1)) ;;
    esac
  done
  case "$at $previous" in
${valueArms(views)}
  esac
  if [[ -z $offered && $current == -* ]]; then
    case "$at" in
${optionArms(views)}
    esac
  elif [[ -z $offered ]]; then
    case "$at $count" in
${wordArms(views)}
    esac
  fi
  if [[ $kind == file ]]; then
    _files
    return
  fi
  [[ -n $kind ]] && offers="$("$program" "\${socket[@]}" complete-names "$kind" 2>/dev/null)"
  compadd -- \${=offers}
}

if [[ \${funcstack[1]} == _berth ]]; then
  _berth "$@"
else
  compdef _berth berth
fi
`;
}
