#include "launch/data/tokenizers/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <limits>

#include "core/base/error.h"

namespace witan {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

// GPT-2; Llama 3; Qwen 2; DeepSeek-V3.
const std::array<std::string_view, 4> kWellKnown = {
    kGpt2Pattern,
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};

// Digits; DeepSeek-V3.
const std::array<std::string_view, 4> kRuns = {R"(\p{N})", R"(\p{N}+)", R"(\p{N}{1,3})",
                                               "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"};

bool is_among(const std::array<std::string_view, 4>& expressions, const std::string& expression) {
  return std::find(expressions.begin(), expressions.end(), expression) != expressions.end();
}

// What Oniguruma's classes are in PCRE2's terms.
std::string_view translated_class(char name) {
  switch (name) {
    case 's': return R"(\p{White_Space})";
    case 'S': return R"(\P{White_Space})";
    case 'd': return R"(\p{Nd})";
    case 'D': return R"(\P{Nd})";
    default: return {};
  }
}

// Both syntaxes agree on what tokenizers use of them; the rest is refused rather than guessed.
class Translation {
 public:
  Translation(const std::string& expression, const std::string& where)
      : text_(expression), where_(where) {}

  std::string run() {
    while (at_ < text_.size()) step();
    return out_;
  }

 private:
  [[noreturn]] void refuse(const std::string& construct) const {
    throw_user_error(where_, ": the expression ", text_, " has ", construct, " at position ", at_,
                     ", which is not supported");
  }
  bool next_is(std::string_view what) const { return text_.compare(at_, what.size(), what) == 0; }
  void copy(std::size_t count) {
    out_ += text_.substr(at_, count);
    at_ += count;
  }

  void step() {
    const char c = text_[at_];
    if (c == '\\') return escape();
    if (in_class_) {
      if (c == '[') refuse("a [ inside [ ]");
      if (next_is("&&")) refuse("&& inside [ ]");
      if (c == ']') in_class_ = false;
      return copy(1);
    }
    if (c == '[') return open_class();
    if (c == '^' || c == '$' || c == '.') refuse(std::string("an unescaped ") + c);
    if (c == '}' && at_ + 1 < text_.size() && text_[at_ + 1] == '+') refuse("}+");
    if (c == '(' && next_is("(?")) return open_group();
    copy(1);
  }

  void escape() {
    if (at_ + 1 == text_.size()) refuse("a \\ at its end");
    const char name = text_[at_ + 1];
    const std::string_view translated = translated_class(name);
    if (!translated.empty()) {
      out_ += translated;
      at_ += 2;
      return;
    }
    const bool letter = (name >= 'a' && name <= 'z') || (name >= 'A' && name <= 'Z');
    const bool digit = name >= '0' && name <= '9';
    constexpr std::string_view kSame = "pPrntfxu";
    if (digit || (letter && kSame.find(name) == std::string_view::npos)) {
      refuse(std::string("\\") + name);
    }
    if (name == 'u') return unicode_escape();
    copy(2);
    if (letter && at_ < text_.size() && text_[at_] == '{') {  // \p{...}, \x{...}
      copy(std::min(text_.find('}', at_), text_.size() - 1) + 1 - at_);
    }
  }

  // \u4e00 is PCRE2's \x{4e00}.
  void unicode_escape() {
    out_ += "\\x{" + text_.substr(at_ + 2, 4) + "}";
    at_ = std::min(at_ + 6, text_.size());
  }

  void open_class() {
    in_class_ = true;
    copy(next_is("[^") ? 2 : 1);
    if (at_ < text_.size() && text_[at_] == ']') refuse("an empty [ ]");
  }

  void open_group() {
    for (const std::string_view group : {"(?i:", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (next_is(group)) return copy(group.size());
    }
    refuse(text_.substr(at_, 4));
  }

  const std::string& text_;
  const std::string& where_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
};

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

std::string escaped(const std::string& text) {
  std::string expression;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain =
        byte >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!plain) expression += '\\';
    expression += c;
  }
  return expression;
}

}  // namespace

void SplitPattern::FreeCode::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }
void SplitPattern::FreeContext::operator()(pcre2_real_match_context_8* context) const {
  pcre2_match_context_free(context);
}
void SplitPattern::FreeMatch::operator()(pcre2_real_match_data_8* data) const {
  pcre2_match_data_free(data);
}

SplitPattern::SplitPattern(const std::string& expression, const std::string& where)
    : SplitPattern(expression, Translation(expression, where).run(), where) {}

SplitPattern SplitPattern::literal(const std::string& text, const std::string& where) {
  return {text, escaped(text), where};
}

SplitPattern::SplitPattern(const std::string& expression, const std::string& translated,
                           const std::string& where)
    : well_known_(is_among(kWellKnown, expression)), isolates_runs_(is_among(kRuns, expression)) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                            nullptr));
  if (code_ == nullptr) {
    throw_user_error(where, ": the expression ", expression, " is malformed: ", message_of(error));
  }
  // A run of white space of some megabytes is stepped back through character by character.
  context_.reset(pcre2_match_context_create(nullptr));
  WITAN_CHECK(context_ != nullptr, "no memory for an expression");
  pcre2_set_match_limit(context_.get(), std::numeric_limits<std::uint32_t>::max());
  // Where there is no compiler (a CPU it does not know, a kernel that forbids it), the interpreter.
  jit_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

SplitPattern::Match SplitPattern::make_match() const {
  Match match(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  WITAN_CHECK(match != nullptr, "no memory for a match");
  return match;
}

SplitPattern::Range SplitPattern::find(std::string_view text, std::size_t from,
                                       pcre2_real_match_data_8* match) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int result = 0;
  if (jit_) {
    result = pcre2_jit_match(code_.get(), subject, text.size(), from, PCRE2_NOTEMPTY, match,
                             context_.get());
  }
  // The interpreter has room on the heap where the compiled expression runs out of stack.
  if (!jit_ || result == PCRE2_ERROR_JIT_STACKLIMIT) {
    constexpr std::uint32_t kOptions = PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT;
    result = pcre2_match(code_.get(), subject, text.size(), from, kOptions, match, context_.get());
  }
  if (result == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
  WITAN_CHECK(result >= 0, "regular expression: ", message_of(result));
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match);
  return {range[0], range[1]};
}

}  // namespace witan
