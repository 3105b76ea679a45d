#include "launch/data/document_encoder.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/error.h"

namespace witan {
namespace {

// Calls f(begin of the line, line without its end, begin of the next line).
template <class F>
void for_each_line(std::string_view text, F&& f) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t newline = text.find('\n', begin);
    const std::size_t end = newline == std::string_view::npos ? text.size() : newline;
    const std::size_t next = newline == std::string_view::npos ? end : newline + 1;
    std::string_view line = text.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    f(begin, line, next);
    begin = next;
  }
}

// "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..." without what
// the caller says better.
std::string reason(const nlohmann::json::exception& error) {
  const std::string what = error.what();
  const std::size_t colon = what.find(": ");
  return colon == std::string::npos ? what : what.substr(colon + 2);
}

std::string fields_of(const nlohmann::json& object) {
  std::string names;
  for (const auto& [name, value] : object.items()) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none" : names;
}

}  // namespace

EncodedBlock DocumentEncoder::encode(const InputFile& file, const TextBlock& block) const {
  EncodedBlock out;
  if (file.jsonl)
    encode_json_lines(file, block, out);
  else
    encode_text(file, block, out);
  return out;
}

// `text` goes on with a document of the block before, or leaves one open for the block behind, or
// both: what stands at such an end, up to the first place where it may be divided, is kept as text.
void DocumentEncoder::add(std::string_view text, bool from_block_before, bool open,
                          EncodedBlock& out) const {
  out.text_bytes += static_cast<std::int64_t>(text.size());
  if (from_block_before) {
    const std::size_t cut = std::min(tokenizer_.first_cut(text), text.size());
    out.head = text.substr(0, cut);
    text.remove_prefix(cut);
  }
  if (open) {
    const std::size_t cut = tokenizer_.last_cut(text);
    const std::size_t kept = cut == std::string_view::npos ? 0 : cut;
    out.tail = text.substr(kept);
    text.remove_suffix(text.size() - kept);
  }
  if (!text.empty()) tokenizer_.encode(text, out.tokens);
}

void DocumentEncoder::encode_text(const InputFile& file, const TextBlock& block,
                                  EncodedBlock& out) const {
  const std::string_view text = block.bytes;
  const std::size_t zero = text.find('\0');
  if (zero != std::string_view::npos)
    throw_user_error(file.path, ": not a text file: byte ",
                     block.offset + static_cast<std::int64_t>(zero),
                     " is zero; expected UTF-8 text, or a name that ends in .jsonl, .gz or .zst");
  const bool goes_on = block.offset > 0;
  if (!separator_) return add(text, goes_on, true, out);
  std::size_t begin = 0;
  for_each_line(text, [&](std::size_t at, std::string_view line, std::size_t next) {
    const bool whole_line = at > 0 || block.starts_line;
    if (!whole_line || line != *separator_) return;
    add(text.substr(begin, at - begin), goes_on && begin == 0, false, out);
    out.document_ends.push_back(out.tokens.size());
    begin = next;
  });
  add(text.substr(begin), goes_on && begin == 0, true, out);
}

void DocumentEncoder::encode_json_lines(const InputFile& file, const TextBlock& block,
                                        EncodedBlock& out) const {
  std::vector<std::string> texts;
  for_each_line(block.bytes, [&](std::size_t at, std::string_view line, std::size_t) {
    if (line.find_first_not_of(" \t") == std::string_view::npos) return;
    texts.push_back(json_text(file, block.offset + static_cast<std::int64_t>(at), line));
    out.text_bytes += static_cast<std::int64_t>(texts.back().size());
  });
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  if (!views.empty()) tokenizer_.encode_each(views, out.tokens, out.document_ends);
}

std::string DocumentEncoder::json_text(const InputFile& file, std::int64_t offset,
                                       std::string_view line) const {
  const auto where = [&] { return detail::concat(file.path, ":", line_number(file, offset)); };
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    throw_user_error(where(), ":", error.byte, ": not valid JSON: ", reason(error));
  } catch (const nlohmann::json::out_of_range& error) {  // a number too large for a double
    throw_user_error(where(), ": not valid JSON: ", reason(error));
  }
  if (!value.is_object())
    throw_user_error(where(), ": a JSON ", value.type_name(), ", expected an object on each line");
  const auto field = value.find(json_field_);
  if (field == value.end())
    throw_user_error(where(), ": no field \"", json_field_, "\"; fields here: ", fields_of(value));
  if (!field->is_string())
    throw_user_error(where(), ": field \"", json_field_, "\" is a ", field->type_name(),
                     ", expected a string");
  return std::move(field->get_ref<std::string&>());
}

}  // namespace witan
