//! A module that keeps account of where it has been: the one that is shipped, with a mark set at each
//! place to which a branch can lead.
//!
//! The compiler's own coverage would need a build of everything with other flags, and would say
//! nothing of the module that a gateway runs. So the marks are put into the finished file: one byte
//! each of a memory of their own, which the filter cannot reach.

use std::convert::Infallible;

use anyhow::{Context as _, Result, anyhow};
use vaultref_harness::Module;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Instruction, MemArg, MemorySection, MemoryType,
};
use wasmparser::{ExportSectionReader, FunctionBody, MemorySectionReader, Operator};

/// The name under which the module exports its marks.
pub(super) const MARKS: &str = "vaultref-fuzz-marks";

/// The size of the memory for marks; more places than bytes share them.
const PAGES: u64 = 2;
const PLACES: u32 = 2 * 65_536;

/// Puts marks into a module's bytes and compiles it.
///
/// # Errors
///
/// When the bytes are no module, or one with more than one memory.
pub(super) fn mark(module: &[u8]) -> Result<Module> {
    let mut marker = Marker::default();
    let mut marked = wasm_encoder::Module::new();
    let parser = wasmparser::Parser::new(0);
    marker
        .parse_core_module(&mut marked, parser, module)
        .map_err(|error| anyhow!("cannot put marks into the module: {error:?}"))?;
    anyhow::ensure!(marker.memories == 1, "the module has not one memory");
    Module::compile(marked.finish()).context("with its marks it is no module any more")
}

#[derive(Default)]
struct Marker {
    places: u32,
    memories: u32,
}

impl Marker {
    /// Sets the next mark.
    fn place(&mut self, function: &mut wasm_encoder::Function) {
        let at = self.places % PLACES;
        self.places += 1;
        function.instruction(&Instruction::I32Const(at.cast_signed()));
        function.instruction(&Instruction::I32Const(1));
        function.instruction(&Instruction::I32Store8(MemArg {
            offset: 0,
            align: 0,
            memory_index: 1,
        }));
    }
}

impl Reencode for Marker {
    type Error = Infallible;

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: MemorySectionReader<'_>,
    ) -> Result<(), Error> {
        self.memories = section.count();
        utils::parse_memory_section(self, memories, section)?;
        memories.memory(MemoryType {
            minimum: PAGES,
            maximum: Some(PAGES),
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(MARKS, ExportKind::Memory, 1);
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        self.place(&mut function);
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let operator = reader.read()?;
            let branches = matches!(
                operator,
                Operator::BrIf { .. }
                    | Operator::Else
                    | Operator::End
                    | Operator::If { .. }
                    | Operator::Loop { .. }
            );
            function.instruction(&self.instruction(operator)?);
            // Behind the last end there is no place.
            if branches && !reader.eof() {
                self.place(&mut function);
            }
        }
        code.function(&function);
        Ok(())
    }
}
