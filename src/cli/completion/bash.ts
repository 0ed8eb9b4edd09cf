/** Completion for bash 4 and later, without bash-completion. */
import { type CommandView, valuedOptions } from './view.ts';
import { optionArms, pathPattern, valueArms, wordArms } from './words.ts';

export function bashScript(views: readonly CommandView[]): string {
  return `# Completion of berth for bash, made by \`berth completion bash\`.

_berth() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="" at="" count=0 offers="" kind="" offered="" word i
  local -a socket=()
  [[ $current == "=" ]] && current=""
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    [[ $word == "=" ]] && continue
    case "$previous" in
      --socket) socket=(--socket "$word"); previous="" ; continue ;;
      ${valuedOptions(views).join('|')}) previous="" ; continue ;;
    esac
    previous="$word"
    [[ $word == -* ]] && continue
    case "$at/$word" in
      ${pathPattern(views)}) at="$at/$word" ;;
      *) count=$((count + 1)) ;;
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
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
    return
  fi
  # Names are letters, digits and dashes only, whatever the agent says: compgen expands its words.
  [[ -n $kind ]] && offers="$("\${COMP_WORDS[0]}" "\${socket[@]}" complete-names "$kind" 2>/dev/null)"
  mapfile -t COMPREPLY < <(compgen -W "$offers" -- "$current")
}

complete -F _berth berth
`;
}
