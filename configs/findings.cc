#include "configs/findings.h"

#include <algorithm>
#include <sstream>
#include <tuple>
#include <utility>

namespace witan::configs {

std::string ConfigError::to_string() const {
  std::ostringstream text;
  text << source;
  if (line > 0) text << ':' << line << ':' << column;
  if (!source.empty()) text << ": ";
  if (!field.empty()) text << field << ": ";
  text << message;
  return std::move(text).str();
}

std::string child_path(const std::string& parent, const std::string& name, int index) {
  std::ostringstream path;
  if (!parent.empty()) path << parent << '.';
  path << name;
  if (index >= 0) path << '[' << index << ']';
  return std::move(path).str();
}

void Findings::forget(const std::string& path) {
  for (auto it = origins_.lower_bound(path); it != origins_.end();) {
    if (it->first.compare(0, path.size(), path) != 0) break;
    const char next = it->first.size() == path.size() ? '.' : it->first[path.size()];
    it = next == '.' || next == '[' ? origins_.erase(it) : std::next(it);
  }
}

Origin Findings::nearest(std::string path) const {
  while (!path.empty()) {
    const auto it = origins_.find(path);
    if (it != origins_.end()) return it->second;
    const std::size_t end = path.find_last_of(".[");
    path.resize(end == std::string::npos ? 0 : end);
  }
  return {Origin::Kind::kFile, 0, 0};
}

void Findings::fail(const std::string& field, const std::string& message, const Origin& origin) {
  errors_.push_back(make_error(field, message, origin));
}

void Findings::fail(const std::string& field, const std::string& message) {
  fail(field, message, nearest(field));
}

void Findings::fail_unknown(const std::string& field, const std::string& message,
                            const Origin& origin) {
  unknown_.push_back(make_error(field, message, origin));
}

ConfigErrors Findings::sorted_errors() const {
  ConfigErrors all = errors_;
  all.insert(all.end(), unknown_.begin(), unknown_.end());
  std::stable_sort(all.begin(), all.end(), [this](const ConfigError& a, const ConfigError& b) {
    return std::make_tuple(a.source != file_, a.line, a.column) <
           std::make_tuple(b.source != file_, b.line, b.column);
  });
  return all;
}

ConfigError Findings::make_error(const std::string& field, const std::string& message,
                                 const Origin& origin) const {
  ConfigError error;
  error.field = field;
  error.message = message;
  error.source = origin.kind == Origin::Kind::kOverride ? "--set" : file_;
  error.line = origin.line;
  error.column = origin.column;
  return error;
}

}  // namespace witan::configs
