# cmake -DINPUT=file -DOUTPUT=file.cc -DNAME=symbol -P embed_file.cmake
# The bytes of a file as `const unsigned char witan::configs::NAME[]` and `const unsigned NAME_size`.
file(READ ${INPUT} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "((0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,)(0x..,))" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "namespace witan::configs {
extern const unsigned char ${NAME}[];
extern const unsigned ${NAME}_size;
const unsigned char ${NAME}[] = {
${bytes}
};
const unsigned ${NAME}_size = sizeof(${NAME});
}  // namespace witan::configs
")
