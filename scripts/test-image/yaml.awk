# Flattens the YAML of a NoCloud seed, block or flow style (so JSON too), to lines of path, tab, value:
#
#   ethernets:                         ethernets/n0/match/macaddress   52:54:00:00:00:01
#     n0: {match: {macaddress: ...}}   ethernets/n0/addresses/0        192.0.2.5/24
#
# List items are numbered from 0. In values a backslash is written \\ and a line end \n, as `printf %b` reads them.
# Not supported: anchors, tags, several documents, plain scalars of several lines. Ends with 1 on what it can not read.

{ sub(/\r$/, ""); line[++lines] = $0 }

END {
  for (at = 1; at <= lines && is_blank(line[at]); at++);
  if (at > lines) exit 0
  if (line[at] ~ /^[ \t]*[{[]/) {
    for (; at <= lines; at++) flow = flow line[at] "\n"
    parse_flow("")
    exit failed
  }
  depth = 0
  pending = ""
  for (; at <= lines && !failed; at++) {
    if (is_blank(line[at])) continue
    match(line[at], /^ */)
    node(RLENGTH, substr(line[at], RLENGTH + 1))
  }
  exit failed
}

function is_blank(text) { return text ~ /^[ \t]*(#.*)?$/ || text ~ /^(---|\.\.\.)[ \t]*$/ }

function fail() { failed = 1 }

function emit(path, value) {
  gsub(/\\/, "\\\\", value)
  gsub(/\n/, "\\n", value)
  print path "\t" value
}

function join(path, key) { return path == "" ? key : path "/" key }

# node INDENT TEXT: one line, or what follows "- " on it: a list item, a key, or a scalar that belongs to `pending`.
function node(indent, text,    path, rest) {
  while (depth > 0 && indent < column[depth]) depth--
  if (text ~ /^-([ ]|$)/) return item(indent, text)
  while (depth > 0 && kind[depth] == "list" && column[depth] == indent) depth--
  if (!split_key(text)) return scalar(pending, indent - 1, text)
  rest = key_rest
  if (depth == 0 || column[depth] < indent) push(indent, "map", pending)
  path = join(base[depth], key_name)
  pending = path
  if (rest != "") scalar(path, indent, rest)
}

function item(indent, text,    path, rest) {
  if (depth == 0 || column[depth] < indent || kind[depth] != "list") push(indent, "list", pending)
  path = join(base[depth], count[base[depth]]++)
  rest = text
  sub(/^-[ ]*/, "", rest)
  pending = path
  if (rest == "") return
  if (rest ~ /^-([ ]|$)/ || split_key(rest)) node(indent + length(text) - length(rest), rest)
  else scalar(path, indent, rest)
}

function push(indent, what, path) {
  column[++depth] = indent
  kind[depth] = what
  base[depth] = path
  if (what == "list") count[path] = 0
}

# split_key TEXT: whether TEXT begins with a key; sets key_name and key_rest.
function split_key(text) {
  if (match(text, /^"[^"]*"[ ]*:([ ]+|$)/) || match(text, /^'[^']*'[ ]*:([ ]+|$)/) ||
      match(text, /^[^]["'{},#&*!|>%@` ][^:#]*:([ ]+|$)/)) {
    key_name = substr(text, 1, RLENGTH)
    key_rest = substr(text, RLENGTH + 1)
    sub(/[ ]*:[ ]*$/, "", key_name)
    gsub(/^["']|["']$/, "", key_name)
    if (key_rest ~ /^#/) key_rest = ""
    return 1
  }
  return 0
}

# scalar PATH INDENT TEXT: a value that starts on this line; INDENT is that of the key or item it belongs to.
function scalar(path, indent, text) {
  if (text ~ /^[|>][-+0-9]*[ ]*(#.*)?$/) return block(path, indent, text)
  if (text ~ /^[{["']/) {
    flow = text
    position = 0
    while (open_ended(flow) && at < lines) flow = flow "\n" line[++at]
    return parse_flow(path)
  }
  sub(/[ \t]+#.*$/, "", text)
  sub(/[ \t]+$/, "", text)
  emit(path, text == "~" || text == "null" ? "" : text)
}

# block PATH INDENT HEADER: a literal (|) or folded (>) scalar: the lines that are deeper than INDENT.
function block(path, indent, header,    value, margin, text) {
  margin = -1
  for (; at < lines; at++) {
    text = line[at + 1]
    match(text, /^ */)
    if (text !~ /^[ \t]*$/) {
      if (RLENGTH <= indent) break
      if (margin < 0) margin = RLENGTH
    }
    text = substr(text, margin + 1)
    value = value text (header ~ /^>/ ? " " : "\n")
  }
  sub(/[ \n]+$/, "", value)
  emit(path, value (header ~ /^.-/ ? "" : "\n"))
}

# open_ended TEXT: whether a bracket or a quote is still open at the end of TEXT.
function open_ended(text,    i, c, quote, level) {
  for (i = 1; i <= length(text); i++) {
    c = substr(text, i, 1)
    if (quote != "") {
      if (c == "\\" && quote == "\"") i++
      else if (c == quote) quote = ""
    } else if (c == "\"" || c == "'") quote = c
    else if (c == "{" || c == "[") level++
    else if (c == "}" || c == "]") level--
  }
  return level > 0 || quote != ""
}

# parse_flow PATH: the value in `flow`, which is flow style: {}, [], or a quoted scalar.
function parse_flow(path) {
  position = 1
  flow_value(path)
  skip()
  if (position <= length(flow)) fail()
}

function peek() { return substr(flow, position, 1) }

function skip() {
  for (;;) {
    while (peek() ~ /^[ \t\n]$/) position++
    if (peek() != "#") return
    while (peek() != "\n" && position <= length(flow)) position++
  }
}

function flow_value(path,    i, key) {
  skip()
  if (peek() == "[") {
    position++
    for (i = 0; !failed; i++) {
      skip()
      if (peek() == "]") break
      flow_value(join(path, i))
      separator("]")
    }
    position++
  } else if (peek() == "{") {
    position++
    while (!failed) {
      skip()
      if (peek() == "}") break
      key = flow_scalar(1)
      skip()
      if (peek() != ":") return fail()
      position++
      flow_value(join(path, key))
      separator("}")
    }
    position++
  } else emit(path, flow_scalar(0))
}

function separator(closing) {
  skip()
  if (peek() == ",") position++
  else if (peek() != closing) fail()
}

function flow_scalar(is_key,    c, value, start) {
  c = peek()
  if (c == "\"") return double_quoted()
  if (c == "'") return single_quoted()
  start = position
  while (position <= length(flow)) {
    c = peek()
    if (c ~ /[],{}\n[]/ || (c == ":" && (is_key || substr(flow, position + 1, 1) == " "))) break
    position++
  }
  if (position == start) fail()
  value = substr(flow, start, position - start)
  sub(/[ \t]+$/, "", value)
  return value == "null" || value == "~" ? "" : value
}

function single_quoted(    value, c) {
  for (position++; position <= length(flow); position++) {
    c = peek()
    if (c == "'") {
      position++
      if (peek() != "'") return value
    }
    value = value c
  }
  fail()
}

function double_quoted(    value, c) {
  for (position++; position <= length(flow); position++) {
    c = peek()
    if (c == "\"") {
      position++
      return value
    }
    if (c == "\\") c = escape()
    value = value c
  }
  fail()
}

# escape: the character after a backslash; leaves `position` on the last character that belongs to it.
function escape(    c, code) {
  c = substr(flow, ++position, 1)
  if (c == "n") return "\n"
  if (c == "t") return "\t"
  if (c == "r") return "\r"
  if (c == "u") {
    code = hex(substr(flow, position + 1, 4))
    position += 4
    return code < 128 ? sprintf("%c", code) : "?"
  }
  return c
}

function hex(text,    i, value) {
  for (i = 1; i <= length(text); i++) value = value * 16 + index("0123456789abcdef", tolower(substr(text, i, 1))) - 1
  return value
}
