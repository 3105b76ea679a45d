#include "launch/data/document_encoder.h"

#include <nlohmann/json.hpp>

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
std::string reason(const nlohmann::json::parse_error& error) {
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

void DocumentEncoder::add(std::string_view text, EncodedBlock& out) const {
  tokenizer_.encode(text, out.tokens);
  out.text_bytes += static_cast<std::int64_t>(text.size());
}

void DocumentEncoder::encode_text(const InputFile& file, const TextBlock& block,
                                  EncodedBlock& out) const {
  const std::string_view text = block.bytes;
  const std::size_t zero = text.find('\0');
  if (zero != std::string_view::npos)
    throw_user_error(file.path, ": not a text file: byte ",
                     block.offset + static_cast<std::int64_t>(zero),
                     " is zero; expected UTF-8 text, or a name that ends in .jsonl, .gz or .zst");
  if (!separator_) return add(text, out);
  std::size_t begin = 0;
  for_each_line(text, [&](std::size_t at, std::string_view line, std::size_t next) {
    const bool whole_line = at > 0 || block.starts_line;
    if (!whole_line || line != *separator_) return;
    add(text.substr(begin, at - begin), out);
    out.document_ends.push_back(out.tokens.size());
    begin = next;
  });
  add(text.substr(begin), out);
}

void DocumentEncoder::encode_json_lines(const InputFile& file, const TextBlock& block,
                                        EncodedBlock& out) const {
  for_each_line(block.bytes, [&](std::size_t at, std::string_view line, std::size_t) {
    if (line.find_first_not_of(" \t") == std::string_view::npos) return;
    encode_json(file, block.offset + static_cast<std::int64_t>(at), line, out);
    out.document_ends.push_back(out.tokens.size());
  });
}

void DocumentEncoder::encode_json(const InputFile& file, std::int64_t offset, std::string_view line,
                                  EncodedBlock& out) const {
  const auto where = [&] { return detail::concat(file.path, ":", line_number(file, offset)); };
  nlohmann::json value;
  try {
    value = nlohmann::json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    throw_user_error(where(), ":", error.byte, ": not valid JSON: ", reason(error));
  }
  if (!value.is_object())
    throw_user_error(where(), ": a JSON ", value.type_name(), ", expected an object on each line");
  const auto field = value.find(json_field_);
  if (field == value.end())
    throw_user_error(where(), ": no field \"", json_field_, "\"; fields here: ", fields_of(value));
  if (!field->is_string())
    throw_user_error(where(), ": field \"", json_field_, "\" is a ", field->type_name(),
                     ", expected a string");
  add(field->get_ref<const std::string&>(), out);
}

}  // namespace witan
